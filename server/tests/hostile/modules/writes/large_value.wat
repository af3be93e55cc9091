;; call run: too_large: value of 1048577 bytes
(module
  (import "luge_v1" "kv_set" (func $kv_set (param i32 i32 i32 i32 i64)))
  (memory (export "memory") 17)
  (func (export "run") (result i32)
    (call $kv_set (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 1048577) (i64.const 0))
    (i32.const 0)))
