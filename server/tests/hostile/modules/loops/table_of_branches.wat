;; call run: fuel_exhausted
(module
  (memory (export "memory") 1)
  (func (export "run") (result i32)
    (loop $a (loop $b (loop $c (br_table $a $b $c $a (i32.const 2)))))
    (i32.const 0)))
