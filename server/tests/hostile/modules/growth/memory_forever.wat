;; call run: fuel_exhausted
(module
  (memory (export "memory") 1)
  (func (export "run") (result i32)
    (loop $forever (drop (memory.grow (i32.const 1))) (br $forever))
    (i32.const 0)))
