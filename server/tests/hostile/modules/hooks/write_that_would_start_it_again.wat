;; set k: blocked
;; It writes a key of its own prefix; and what a response hook wrote is undone with its block.
(module
  (import "luge_v1" "kv_set" (func $kv_set (param i32 i32 i32 i32 i64)))
  (import "luge_v1" "output_write" (func $output_write (param i32 i32)))
  (memory (export "memory") 1)
  (data (i32.const 1024)
    "{\"hook\": \"run\", \"phase\": \"response\", \"commands\": [\"set\"], \"prefix\": \"k\"}")
  (func (export "metadata") (result i32)
    (call $output_write (i32.const 1024) (i32.const 72))
    (i32.const 0))
  (data (i32.const 0) "k")
  (func (export "run") (result i32)
    (call $kv_set (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 1) (i64.const 0))
    (i32.const 1)))
