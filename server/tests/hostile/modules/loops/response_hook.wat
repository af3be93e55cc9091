;; set k: blocked: used up its fuel
(module
  (import "luge_v1" "output_write" (func $output_write (param i32 i32)))
  (memory (export "memory") 1)
  (data (i32.const 1024)
    "{\"hook\": \"run\", \"phase\": \"response\", \"commands\": [\"set\"], \"prefix\": \"k\"}")
  (func (export "metadata") (result i32)
    (call $output_write (i32.const 1024) (i32.const 72))
    (i32.const 0))
  (func (export "run") (result i32)
    (loop $forever (br $forever))
    (i32.const 0)))
