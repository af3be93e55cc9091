;; get k: blocked
(module
  (import "luge_v1" "response_set_value" (func $response_set_value (param i32 i32)))
  (import "luge_v1" "output_write" (func $output_write (param i32 i32)))
  (memory (export "memory") 40)
  (data (i32.const 1024)
    "{\"hook\": \"run\", \"phase\": \"response\", \"commands\": [\"get\"], \"prefix\": \"k\"}")
  (func (export "metadata") (result i32)
    (call $output_write (i32.const 1024) (i32.const 72))
    (i32.const 0))
  (func (export "run") (result i32)
    (call $response_set_value (i32.const 0) (i32.const 1048577))
    (i32.const 0)))
