;; get k: ok
;; An answer is an output, with the bound of an output.
(module
  (import "luge_v1" "output_write" (func $output_write (param i32 i32)))
  (memory (export "memory") 40)
  (data (i32.const 1024)
    "{\"hook\": \"run\", \"phase\": \"request\", \"commands\": [\"get\"], \"prefix\": \"k\"}")
  (func (export "metadata") (result i32)
    (call $output_write (i32.const 1024) (i32.const 71))
    (i32.const 0))
  (func (export "run") (result i32)
    (call $output_write (i32.const 0) (i32.const 1048577))
    (i32.const 2)))
