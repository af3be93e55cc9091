;; push: invalid_module: used up its fuel
(module
  (memory (export "memory") 1)
  (func (export "metadata") (result i32) (loop $forever (br $forever)) (i32.const 0))
  (func (export "run") (result i32) (i32.const 0)))
