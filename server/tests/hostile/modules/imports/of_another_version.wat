;; push: invalid_module: does not have
(module
  (import "luge_v2" "kv_get" (func))
  (memory (export "memory") 1)
  (func (export "run") (result i32) (i32.const 0)))
