;; call run: fuel_exhausted
(module
  (import "luge_v1" "kv_scan" (func $kv_scan (param i32 i32 i32 i32 i32 i32) (result i32)))
  (import "luge_v1" "kv_scan_next" (func $kv_scan_next (param i32 i32 i32) (result i64)))
  (memory (export "memory") 1)
  (func (export "run") (result i32)
    (local $scan i32)
    (local.set $scan (call $kv_scan (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)))
    (loop $more (drop (call $kv_scan_next (local.get $scan) (i32.const 65536) (i32.const 0))) (br $more))
    (i32.const 0)))
