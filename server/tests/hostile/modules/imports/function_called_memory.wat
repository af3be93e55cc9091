;; push: invalid_module: does not export its memory
(module
  (import "luge_v1" "now_ms" (func $now_ms (result i64)))
  (func (export "memory"))
  (func (export "run") (result i32) (i32.const 0)))
