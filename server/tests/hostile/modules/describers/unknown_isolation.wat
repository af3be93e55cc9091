;; push: invalid_module
(module
  (import "luge_v1" "output_write" (func $output_write (param i32 i32)))
  (memory (export "memory") 1)
  (data (i32.const 1024)
    "{\"module\": {\"isolation\": \"shared\"}}")
  (func (export "metadata") (result i32)
    (call $output_write (i32.const 1024) (i32.const 35))
    (i32.const 0))
  (func (export "run") (result i32) (i32.const 0)))
