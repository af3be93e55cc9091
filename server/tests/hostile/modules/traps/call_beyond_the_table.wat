;; call run: trap
(module
  (memory (export "memory") 1)
  (table 1 funcref)
  (type $of (func (result i32)))
  (func (export "run") (result i32) (call_indirect (type $of) (i32.const -1))))
