;; push: invalid_module: with the type
(module
  (import "luge_v1" "kv_get" (func (param i64)))
  (memory (export "memory") 1)
  (func (export "run") (result i32) (i32.const 0)))
