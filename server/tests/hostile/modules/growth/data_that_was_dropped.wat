;; call run: trap
(module
  (memory (export "memory") 1)
  (data $piece "abc")
  (func (export "run") (result i32)
    (data.drop $piece)
    (memory.init $piece (i32.const 0) (i32.const 0) (i32.const 3))
    (i32.const 0)))
