;; push: invalid_module: exceeds its limit of 16777216
(module
  (memory (export "memory") 257)
  (func (export "run") (result i32) (i32.const 0)))
