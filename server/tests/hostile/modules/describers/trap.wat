;; push: invalid_module: unreachable
(module
  (memory (export "memory") 1)
  (func (export "metadata") (result i32) unreachable)
  (func (export "run") (result i32) (i32.const 0)))
