;; push: invalid_module: returned 3
(module
  (memory (export "memory") 1)
  (func (export "metadata") (result i32) (i32.const 3))
  (func (export "run") (result i32) (i32.const 0)))
