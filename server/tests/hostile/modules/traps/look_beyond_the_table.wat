;; call run: trap
(module
  (memory (export "memory") 1)
  (table 1 funcref)
  (func (export "run") (result i32)
    (drop (table.get (i32.const 20000)))
    (i32.const 0)))
