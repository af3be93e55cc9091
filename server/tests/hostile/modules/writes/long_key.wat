;; call run: too_large: key of 1025 bytes
(module
  (import "luge_v1" "kv_set" (func $kv_set (param i32 i32 i32 i32 i64)))
  (memory (export "memory") 1)
  (func (export "run") (result i32)
    (call $kv_set (i32.const 0) (i32.const 1025) (i32.const 0) (i32.const 0) (i64.const 0))
    (i32.const 0)))
