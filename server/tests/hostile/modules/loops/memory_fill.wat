;; call run: fuel_exhausted
(module
  (memory (export "memory") 16)
  (func (export "run") (result i32)
    (loop $forever (memory.fill (i32.const 0) (i32.const 1) (i32.const 1048576)) (br $forever))
    (i32.const 0)))
