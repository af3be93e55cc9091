;; push: invalid_module
(module
  (memory (export "memory") 1)
  (func (export "run") (result i32)
    (drop (i32.atomic.load (i32.const 0)))
    (i32.const 0)))
