;; push: invalid_module
(module
  (memory (export "memory") 1)
  (func $f (result i32) (return_call $f))
  (func (export "run") (result i32) (i32.const 0)))
