/*
One row for each customer of the shop: when they ordered first and last, how often, and what they paid in all.

Amounts are whole cents; customer_lifetime_value is the sum in the currency's unit, exact to the cent (numeric). Without
orders number_of_orders is 0 and both dates are empty; without payments customer_lifetime_value is 0. Orders of unknown
customers and payments without an order belong to nobody and are left out (include/churn/left_out.sql counts them).

Orders and payments are summed up for each customer before they are joined, so that nothing counts twice.
*/
with orders as (
    select
        cast(order_id as bigint) as order_id,
        cast(customer_id as bigint) as customer_id,
        cast(cast(order_date as text) as date) as order_date
    from {{ orders_table }}
),

ordered as (
    select
        customer_id,
        min(order_date) as first_order,
        max(order_date) as most_recent_order,
        count(*) as number_of_orders
    from orders
    group by customer_id
),

paid as (
    select
        orders.customer_id,
        sum(cast(payments.amount as bigint)) as cents
    from {{ payments_table }} as payments
    inner join orders on orders.order_id = cast(payments.order_id as bigint)
    group by orders.customer_id
)

select
    cast(customers.customer_id as bigint) as customer_id,
    customers.first_name,
    customers.last_name,
    ordered.first_order,
    ordered.most_recent_order,
    coalesce(ordered.number_of_orders, 0) as number_of_orders,
    round(coalesce(paid.cents, 0) / 100, 2) as customer_lifetime_value
from {{ customers_table }} as customers
left join ordered on ordered.customer_id = cast(customers.customer_id as bigint)
left join paid on paid.customer_id = cast(customers.customer_id as bigint)
