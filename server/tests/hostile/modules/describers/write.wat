;; push: invalid_module: kv_set
(module
  (import "luge_v1" "kv_set" (func $kv_set (param i32 i32 i32 i32 i64)))
  (memory (export "memory") 1)
  (data (i32.const 0) "k")
  (func (export "metadata") (result i32) (call $kv_set (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 1) (i64.const 0)) (i32.const 0))
  (func (export "run") (result i32) (i32.const 0)))
