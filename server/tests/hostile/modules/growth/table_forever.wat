;; call run: fuel_exhausted
(module
  (table 1 funcref)
  (memory (export "memory") 1)
  (func (export "run") (result i32)
    (loop $forever (drop (table.grow (ref.null func) (i32.const -1))) (drop (table.grow (ref.null func) (i32.const 1))) (br $forever))
    (i32.const 0)))
