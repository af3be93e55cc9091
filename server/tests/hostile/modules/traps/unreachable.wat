;; call run: trap: unreachable
(module
  (memory (export "memory") 1)
  (func (export "run") (result i32)
    unreachable
    (i32.const 0)))
