;; call run: stack_overflow
(module
  (memory (export "memory") 1)
  (type $of (func (result i32)))
  (table 1 funcref)
  (elem (i32.const 0) $deep)
  (func $deep (result i32) (i32.add (call_indirect (type $of) (i32.const 0)) (i32.const 1)))
  (func (export "run") (result i32) (call $deep)))
