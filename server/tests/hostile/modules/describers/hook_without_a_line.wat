;; push: invalid_module: looks like a hook
(module
  (memory (export "memory") 1)
  (func (export "on_request") (result i32) (i32.const 0)))
