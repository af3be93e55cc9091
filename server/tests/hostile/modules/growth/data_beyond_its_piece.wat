;; call run: trap
(module
  (memory (export "memory") 1)
  (data $piece "abc")
  (func (export "run") (result i32)
    (memory.init $piece (i32.const 0) (i32.const 2) (i32.const 2))
    (i32.const 0)))
