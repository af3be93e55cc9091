;; call run: rejected: the code 1
;; Nothing has changed.
(module
  (import "luge_v1" "kv_incr" (func $kv_incr (param i32 i32 i64 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "k")
  (func (export "run") (result i32)
    (drop (call $kv_incr (i32.const 0) (i32.const 1) (i64.const 0x7fffffffffffffff) (i32.const 8)))
    (call $kv_incr (i32.const 0) (i32.const 1) (i64.const 1) (i32.const 8))))
