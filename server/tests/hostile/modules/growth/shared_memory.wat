;; push: invalid_module
(module
  (memory (export "memory") 1 2 shared)
  (func (export "run") (result i32) (i32.const 0)))
