;; call run: trap
(module
  (memory (export "memory") 1)
  (func $begin unreachable)
  (start $begin)
  (func (export "run") (result i32) (i32.const 0)))
