;; push: invalid_module
(module
  (memory (export "memory") 1)
  (func (export "run") (result i32)
    (i64.mul_wide_u (i64.const 1) (i64.const 1)) drop drop
    (i32.const 0)))
