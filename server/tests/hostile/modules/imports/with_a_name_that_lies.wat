;; push: invalid_module: does not have
(module
  (import "luge_v1" "kv_get\e2\80\ae\0a\1b[2J" (func))
  (memory (export "memory") 1)
  (func (export "run") (result i32) (i32.const 0)))
