;; push: invalid_module: unknown variant
(module
  (import "luge_v1" "output_write" (func $output_write (param i32 i32)))
  (memory (export "memory") 1)
  (data (i32.const 1024)
    "{\"hook\": \"run\", \"phase\": \"before\", \"commands\": [\"set\"]}")
  (func (export "metadata") (result i32)
    (call $output_write (i32.const 1024) (i32.const 55))
    (i32.const 0))
  (func (export "run") (result i32) (i32.const 0)))
