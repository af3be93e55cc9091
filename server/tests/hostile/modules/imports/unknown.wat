;; push: invalid_module: the nearest is `luge_v1.kv_get`
(module
  (import "luge_v1" "kv_gett" (func))
  (memory (export "memory") 1)
  (func (export "run") (result i32) (i32.const 0)))
