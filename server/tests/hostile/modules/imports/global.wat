;; push: invalid_module: only functions
(module
  (import "luge_v1" "now_ms" (global i64))
  (memory (export "memory") 1)
  (func (export "run") (result i32) (i32.const 0)))
