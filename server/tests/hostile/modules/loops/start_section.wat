;; call run: fuel_exhausted
(module
  (memory (export "memory") 1)
  (func $begin (loop $forever (br $forever)))
  (start $begin)
  (func (export "run") (result i32) (i32.const 0)))
