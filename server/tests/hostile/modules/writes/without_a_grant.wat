;; call run: forbidden
(module
  (import "luge_v1" "kv_set" (func $kv_set (param i32 i32 i32 i32 i64)))
  (import "luge_v1" "output_write" (func $output_write (param i32 i32)))
  (memory (export "memory") 1)
  (data (i32.const 1024)
    "{\"grant\": {\"write\": [\"other:\"]}}\0a"
    "{\"procedure\": \"run\"}")
  (func (export "metadata") (result i32)
    (call $output_write (i32.const 1024) (i32.const 53))
    (i32.const 0))
  (data (i32.const 0) "k")
  (func (export "run") (result i32)
    (call $kv_set (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 1) (i64.const 0))
    (i32.const 0)))
