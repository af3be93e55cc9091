;; call run: fuel_exhausted
;; limits: fuel 1500000
(module
  (import "luge_v1" "random_fill" (func $random_fill (param i32 i32)))
  (memory (export "memory") 256)
  (func (export "run") (result i32)
    (loop $more (call $random_fill (i32.const 0) (i32.const 16777216)) (br $more))
    (i32.const 0)))
