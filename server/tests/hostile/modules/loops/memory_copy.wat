;; call run: fuel_exhausted
(module
  (memory (export "memory") 16)
  (func (export "run") (result i32)
    (loop $forever (memory.copy (i32.const 0) (i32.const 1) (i32.const 1048575)) (br $forever))
    (i32.const 0)))
