;; call open: ok
;; call run: trap: is no open scan
(module
  (import "luge_v1" "kv_scan" (func $kv_scan (param i32 i32 i32 i32 i32 i32) (result i32)))
  (import "luge_v1" "kv_scan_next" (func $kv_scan_next (param i32 i32 i32) (result i64)))
  (import "luge_v1" "output_write" (func $output_write (param i32 i32)))
  (memory (export "memory") 1)
  (data (i32.const 1024)
    "{\"module\": {\"isolation\": \"reuse\"}}\0a"
    "{\"procedure\": \"open\"}\0a"
    "{\"procedure\": \"run\"}")
  (func (export "metadata") (result i32)
    (call $output_write (i32.const 1024) (i32.const 77))
    (i32.const 0))
  (func (export "open") (result i32) (call $kv_scan (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)))
  (func (export "run") (result i32)
    (drop (call $kv_scan_next (i32.const 0) (i32.const 512) (i32.const 100)))
    (i32.const 0)))
