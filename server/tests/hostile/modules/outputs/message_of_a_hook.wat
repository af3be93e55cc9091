;; set k: blocked
;; It is 2 MiB of zeros.
(module
  (import "luge_v1" "output_write" (func $output_write (param i32 i32)))
  (memory (export "memory") 40)
  (data (i32.const 1024)
    "{\"hook\": \"run\", \"phase\": \"request\", \"commands\": [\"set\"], \"prefix\": \"k\"}")
  (func (export "metadata") (result i32)
    (call $output_write (i32.const 1024) (i32.const 71))
    (i32.const 0))
  (func (export "run") (result i32)
    (call $output_write (i32.const 0) (i32.const 2097152))
    (i32.const 1)))
