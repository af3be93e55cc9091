;; call run: too_large: may write 10000
;; limits: fuel 1000000000
;; Each step writes the key that comes next, so that there is always one more.
(module
  (import "luge_v1" "kv_scan" (func $kv_scan (param i32 i32 i32 i32 i32 i32) (result i32)))
  (import "luge_v1" "kv_scan_next" (func $kv_scan_next (param i32 i32 i32) (result i64)))
  (import "luge_v1" "kv_set" (func $kv_set (param i32 i32 i32 i32 i64)))
  (memory (export "memory") 1)
  (func (export "run") (result i32)
    (local $scan i32) (local $key i32)
    (local.set $scan (call $kv_scan (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 2)))
    (loop $more
      (local.set $key (i32.add (local.get $key) (i32.const 1)))
      ;; Big-endian, so that keys come in the order in which they are written.
      (i32.store8 (i32.const 1) (i32.shr_u (local.get $key) (i32.const 16)))
      (i32.store8 (i32.const 2) (i32.shr_u (local.get $key) (i32.const 8)))
      (i32.store8 (i32.const 3) (local.get $key))
      (call $kv_set (i32.const 0) (i32.const 4) (i32.const 0) (i32.const 0) (i64.const 0))
      (br_if $more (i64.ne (call $kv_scan_next (local.get $scan) (i32.const 64) (i32.const 16)) (i64.const 0))))
    (i32.const 0)))
