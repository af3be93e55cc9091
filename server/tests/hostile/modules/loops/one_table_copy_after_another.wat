;; call run: fuel_exhausted
(module
  (table 20000 funcref)
  (memory (export "memory") 1)
  (func (export "run") (result i32)
    (loop $forever (table.fill (i32.const 0) (ref.null func) (i32.const 20000)) (br $forever))
    (i32.const 0)))
