;; push: invalid_module
(module
  (memory (export "memory") 1)
  (tag)
  (func (export "run") (result i32) (i32.const 0)))
