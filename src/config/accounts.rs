//! A finance sink's chart of accounts.

use serde::{Deserialize, Serialize};

use crate::model::{Reference, posting::Account};

/// The most tax codes of a list.
const TAX_CODES_MAX: usize = 1_000;

/// The accounts that a finance sink posts to, by the names that its books use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Accounts {
    /// What customers owe, tax contained. Default `receivable`.
    pub receivable: String,
    /// Sales of goods, without tax. Default `revenue`.
    pub revenue: String,
    /// Tax owed. Default `tax`.
    pub tax: String,
    /// Shipping fees, without tax. Default `shipping`.
    pub shipping: String,
    /// Money that the payment provider has and owes. Default `settlement_clearing`.
    pub settlement_clearing: String,
    /// What the payment provider keeps. Default `processor_fees`.
    pub processor_fees: String,
    /// Sales given back, without tax. Default `refunds`.
    pub refunds: String,
    /// Goods on hand, at cost. Default `inventory`.
    pub inventory: String,
    /// What goods cost that were sold. Default `cost_of_goods_sold`.
    pub cost_of_goods_sold: String,
    /// What goods cost that came back and can't be sold again. Default `write_off`.
    pub write_off: String,
    /// The tax codes that these books know: an order that comes to them with another one is refused. Default
    /// none: any is taken.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tax_codes: Vec<Reference>,
}

impl Default for Accounts {
    fn default() -> Self {
        Self {
            receivable: "receivable".into(),
            revenue: "revenue".into(),
            tax: "tax".into(),
            shipping: "shipping".into(),
            settlement_clearing: "settlement_clearing".into(),
            processor_fees: "processor_fees".into(),
            refunds: "refunds".into(),
            inventory: "inventory".into(),
            cost_of_goods_sold: "cost_of_goods_sold".into(),
            write_off: "write_off".into(),
            tax_codes: Vec::new(),
        }
    }
}

impl Accounts {
    /// The name of an account.
    pub fn name(&self, account: Account) -> &str {
        match account {
            Account::Receivable => &self.receivable,
            Account::Revenue => &self.revenue,
            Account::Tax => &self.tax,
            Account::Shipping => &self.shipping,
            Account::Clearing => &self.settlement_clearing,
            Account::Fees => &self.processor_fees,
            Account::Refunds => &self.refunds,
            Account::Inventory => &self.inventory,
            Account::CostOfGoods => &self.cost_of_goods_sold,
            Account::WriteOff => &self.write_off,
        }
    }

    /// The key of an account in the configuration.
    fn key(account: Account) -> &'static str {
        match account {
            Account::Receivable => "receivable",
            Account::Revenue => "revenue",
            Account::Tax => "tax",
            Account::Shipping => "shipping",
            Account::Clearing => "settlement_clearing",
            Account::Fees => "processor_fees",
            Account::Refunds => "refunds",
            Account::Inventory => "inventory",
            Account::CostOfGoods => "cost_of_goods_sold",
            Account::WriteOff => "write_off",
        }
    }

    /// Checks every name, and how many tax codes there are.
    ///
    /// # Errors
    /// What is wrong, beginning with the account's key.
    pub(super) fn validate(&self) -> Result<(), String> {
        for account in Account::ALL {
            let (field, name) = (Self::key(account), self.name(account));
            let printable = name.bytes().all(|b| (0x20..=0x7e).contains(&b));
            if name.is_empty() || name.len() > 64 || !printable {
                return Err(format!("{field}: must be 1 to 64 printable ASCII characters"));
            }
        }
        if self.tax_codes.len() > TAX_CODES_MAX {
            return Err(format!("tax_codes: must be at most {TAX_CODES_MAX}"));
        }
        Ok(())
    }
}
