;; ends: Trap
(table $t 0 funcref)
(func $attack
  (loop $l (br_if $l (i32.ne (table.grow $t (ref.null func) (i32.const 1000)) (i32.const -1))))
  (if (i32.gt_u (table.size $t) (i32.const 100000)) (then (return)))
  unreachable)
