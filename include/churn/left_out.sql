/*
One row of counts: which orders and payments belong to nobody. The rules are those of customers.sql; the log shows each
count with the words of include/churn/features.py.
*/
with customers as (
    select cast(customer_id as bigint) as customer_id from {{ customers_table }}
),

orders as (
    select
        cast(order_id as bigint) as order_id,
        cast(customer_id as bigint) as customer_id
    from {{ orders_table }}
)

select
    (
        select count(*) from orders
        left join customers on customers.customer_id = orders.customer_id
        where customers.customer_id is null
    ) as orders_of_unknown_customers,
    (
        select count(*) from {{ payments_table }} as payments
        left join orders on orders.order_id = cast(payments.order_id as bigint)
        where orders.order_id is null
    ) as payments_without_order
