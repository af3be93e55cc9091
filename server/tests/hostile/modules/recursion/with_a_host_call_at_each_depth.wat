;; call run: stack_overflow
;; limits: fuel 1000000000
;; The host needs stack of its own where the guest's is nearly full.
(module
  (import "luge_v1" "kv_get" (func $kv_get (param i32 i32 i32 i32 i32) (result i64)))
  (import "luge_v1" "log" (func $log (param i32 i32 i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "k")
  (func $deep (result i32)
    (drop (call $kv_get (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 8) (i32.const 8)))
    (call $log (i32.const 0) (i32.const 0) (i32.const 1))
    (i32.add (call $deep) (i32.const 1)))
  (func (export "run") (result i32) (call $deep)))
