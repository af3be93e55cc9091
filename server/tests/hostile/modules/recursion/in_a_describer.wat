;; push: invalid_module: stack
(module
  (memory (export "memory") 1)
  (func $deep (result i32) (i32.add (call $deep) (i32.const 1)))
  (func (export "metadata") (result i32) (call $deep))
  (func (export "run") (result i32) (i32.const 0)))
