;; call run: too_large: may write 10000
;; limits: fuel 1000000000
(module
  (import "luge_v1" "kv_set" (func $kv_set (param i32 i32 i32 i32 i64)))
  (memory (export "memory") 1)
  (func (export "run") (result i32)
    (local $key i32)
    (loop $more
      (i32.store (i32.const 0) (local.get $key))
      (call $kv_set (i32.const 0) (i32.const 4) (i32.const 0) (i32.const 0) (i64.const 0))
      (local.set $key (i32.add (local.get $key) (i32.const 1)))
      (br $more))
    (i32.const 0)))
