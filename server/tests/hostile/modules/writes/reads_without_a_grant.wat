;; call run: forbidden
(module
  (import "luge_v1" "kv_scan" (func $kv_scan (param i32 i32 i32 i32 i32 i32) (result i32)))
  (import "luge_v1" "output_write" (func $output_write (param i32 i32)))
  (memory (export "memory") 1)
  (data (i32.const 1024)
    "{\"grant\": {\"read\": [\"other:\"]}}\0a"
    "{\"procedure\": \"run\"}")
  (func (export "metadata") (result i32)
    (call $output_write (i32.const 1024) (i32.const 52))
    (i32.const 0))
  (func (export "run") (result i32)
    (drop (call $kv_scan (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)))
    (i32.const 0)))
