;; push: invalid_module
(module
  (memory (export "memory") 1)
  (func (export "metadata") (result i32)
    (loop $more (br_if $more (i32.ne (memory.grow (i32.const 16)) (i32.const -1))))
    unreachable)
  (func (export "run") (result i32) (i32.const 0)))
