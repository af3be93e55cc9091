;; call run: stack_overflow
;; limits: fuel 1000000000
(module
  (import "luge_v1" "kv_scan" (func $kv_scan (param i32 i32 i32 i32 i32 i32) (result i32)))
  (import "luge_v1" "kv_scan_next" (func $kv_scan_next (param i32 i32 i32) (result i64)))
  (import "luge_v1" "kv_scan_close" (func $kv_scan_close (param i32)))
  (memory (export "memory") 1)
  (func $deep (result i32) (local $scan i32)
    (local.set $scan (call $kv_scan (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)))
    (drop (call $kv_scan_next (local.get $scan) (i32.const 0) (i32.const 4096)))
    (call $kv_scan_close (local.get $scan))
    (i32.add (call $deep) (i32.const 1)))
  (func (export "run") (result i32) (call $deep)))
